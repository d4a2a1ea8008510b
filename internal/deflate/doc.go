// Package deflate compresses and decompresses the clusters of qcow2 images: raw
// deflate (RFC 1951) of a few KiB to 2 MiB, all of it in memory.
//
// It does less than a general library, and so does that in a fraction of the
// time. Input and output are whole slices of bytes, there is no stream. The
// encoder has one level and a window of 4 KiB, which is what qemu writes. The
// decoder knows how many bytes must come out. Neither allocates memory for a
// call, and the output depends on nothing but the input.
//
// # The format
//
//	stream   │ block │ block │ ... │ last block │ 0 to 7 bits │
//
//	block    │ 1 last? │ 2 type │ stored:  to the next byte │ 16 length │ 16 ^length │ bytes │
//	                            │ fixed:                                  symbols ... │ end │
//	                            │ dynamic: lengths of the codes         │ symbols ... │ end │
//
//	symbols  │ literal │                                              a byte
//	         │ length │ 0-5 extra bits │ distance │ 0-13 extra bits │  a match: copy earlier output
//
// Literals, lengths and the end of the block share one Huffman code. Distances
// have another. A dynamic block lists the length of each symbol's code; the codes
// follow from these.
//
// # The encoder
//
//	        ┌ matcher ┐ sequences          ┌ lengthFinder ┐ lengths of codes
//	src ───>│ split   ├─────────────┬─────>│ find         ├───────┬──────────> header.make
//	64 KiB  └─────────┘ counts ─────┘      └──────────────┘       │
//	                                                              └─> Encoder.write ──> bitWriter
//
// The matcher looks up four bytes in a table of where they were last, and at the
// distance of the match before: tables of inodes have a stride. The sizes of the
// stored, the fixed and the dynamic block are known before a byte is written,
// so a cluster that does not shrink costs only the search for matches.
//
// # The decoder
//
//	src ──> bitsIn ──> table ──> entry ──> literal or match ──> dst, its own window
//	        64 bits    11 bits   value and
//	                   9 bits    extra bits
//
// Decoder.fast decodes while at least 16 bytes of input and the longest match of
// output are left, so that it can load eight bytes at once and needs no checks of
// its own for the end. All that is rare goes to Decoder.step, one symbol at a time,
// with all checks. What is accepted is what zlib accepts, or a little more.
package deflate
