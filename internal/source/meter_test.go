package source

import (
	"testing"
	"time"
)

// A load is reads of one length: so many, so many at once, each of which takes a
// time of its own and begins a time after the one before.
type load struct {
	reads, length int
	each, apart   time.Duration
}

func TestMeter(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	for name, c := range map[string]struct {
		assumed     costs
		loads       []load
		least, most int // of the bridge, KiB
	}{
		"nothing measured":        {solid, nil, 110, 130},
		"nothing, it turns":       {rotational, nil, 1100, 1300},
		"too little":              {solid, []load{{20, 4096, 5 * ms, 5 * ms}}, 110, 130},
		"from the page cache":     {solid, []load{{1000, 4096, 5 * us, 5 * us}}, 110, 130},
		"400 reads a second":      {solid, []load{{100, 4096, 5 * ms, 2500 * us}, {100, 1280 << 10, 5 * ms, 2500 * us}}, 1270, 1290},
		"the same, no large ones": {solid, []load{{1000, 4096, 80 * ms, 2500 * us}}, 2900, 3200},
		"32 at once, 3 GB/s":      {solid, []load{{1000, 4096, 96 * us, 3 * us}, {100, 1 << 20, 700 * us, 350 * us}}, 7, 10},
		"a disk of 200 MB/s":      {rotational, []load{{100, 8192, 9 * ms, 9 * ms}, {50, 1 << 20, 5 * ms, 5 * ms}}, 1750, 1900},
	} {
		m := &meter{assumed: c.assumed}
		at := time.Unix(1, 0)
		for _, l := range c.loads {
			for range l.reads {
				m.note(int64(l.length), at, at.Add(l.each))
				at = at.Add(l.apart)
			}
			at = at.Add(l.each)
		}
		if kib := m.costs().bridge() >> 10; kib < c.least || kib > c.most {
			t.Errorf("%s: a bridge of %d KiB, want %d to %d", name, kib, c.least, c.most)
		}
	}
}
