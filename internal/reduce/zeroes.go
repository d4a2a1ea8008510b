package reduce

import "context"

// zeroBlocks zeroes what is not zero, by halves and smaller parts: at first in
// pieces of a block, or of a page where there is no filesystem to say how large a
// block is.
func zeroBlocks(ctx context.Context, r *reducer) error {
	size := int64(page)
	descs := map[int64]bool{} // blocks without which nothing is found
	if f, err := r.disk.open(); err == nil {
		size = int64(f.geo.BlockSize)
		for i := range f.geo.DescBlocks {
			descs[int64(f.geo.DescBlock(0, i))] = true
		}
	}
	var list []int64 // numbers of pieces
	for _, run := range r.disk.image().runs {
		for n := run.Start / size; n*size < run.End; n++ {
			if !descs[n] && (len(list) == 0 || list[len(list)-1] != n) {
				list = append(list, n)
			}
		}
	}
	return r.eachPart(ctx, len(list), func(things []int) *change {
		c := &change{pages: map[int64][]byte{}}
		for _, i := range things {
			for at := int64(0); at < size; at += page {
				if n := (list[i]*size + at) / page; n != superblockOffset/page {
					c.pages[n] = make([]byte, page)
				}
			}
		}
		return c
	})
}
