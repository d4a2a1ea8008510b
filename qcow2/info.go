package qcow2

import (
	"encoding/json"
	"fmt"
	"time"
)

// Info says how an image was made. It is kept in a header extension of type
// 0x65327163 ("e2qc") as a JSON object with short names, at most maxInfo bytes
// of it; programs that do not know the type skip it.
type Info struct {
	Format     int       `json:"v"`              // of this record: 1
	Tool       string    `json:"tool,omitempty"` // name and version of the writer
	Mode       string    `json:"mode,omitempty"` // what was kept of the source
	BlockSize  int64     `json:"block_size,omitempty"`
	Unreadable int64     `json:"unreadable"`     // blocks that could not be read
	UUID       string    `json:"uuid,omitempty"` // of a filesystem; what it says of the image depends on Mode
	Salt       string    `json:"salt,omitempty"` // hexadecimal: what the key of a scrambled image was derived with
	Time       time.Time `json:"time,omitzero"`
}

// maxInfo is the room in the smallest first cluster, between the longest header
// that is written and the end of the extensions.
const maxInfo = 1<<minClusterBits - headerSizeFull - 8 - 8

// encode returns the record, or an error if it is too long.
func (i Info) encode() ([]byte, error) {
	i.Format = 1
	b, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encode header extension: %w", err)
	}
	if len(b) > maxInfo {
		return nil, fmt.Errorf("header extension of %d bytes is longer than %d", len(b), maxInfo)
	}
	return b, nil
}

// Info returns the record of how the image was made, if this package wrote the
// image and the record can be read.
func (h *Header) Info() (Info, bool) {
	var i Info
	if len(h.info) == 0 || json.Unmarshal(h.info, &i) != nil || i.Format < 1 {
		return Info{}, false
	}
	return i, true
}
