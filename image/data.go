package image

// A DataFinder is an image that knows which of its known bytes are zero.
type DataFinder interface {
	// NextData is NextRun without the bytes that are known to be zero.
	NextData(off int64) (start, end int64, err error)
}

// nextData returns the next run of img that may hold bytes other than zero.
func nextData(img Image, off int64) (start, end int64, err error) {
	if f, ok := img.(DataFinder); ok {
		return f.NextData(off)
	}
	return img.NextRun(off)
}

// Data returns img without the runs that are known to be zero: for a sink to
// which a zero is the same as a byte that is not known.
func Data(img Image) Image {
	if _, ok := img.(DataFinder); !ok {
		return img
	}
	return data{img}
}

type data struct{ Image }

func (d data) NextRun(off int64) (start, end int64, err error) { return nextData(d.Image, off) }

func (d data) NextData(off int64) (start, end int64, err error) { return nextData(d.Image, off) }

func (d data) NextLost(off int64) (start, end int64, err error) { return NextLost(d.Image, off) }

func (d data) Advice() Advice { return AdviceOf(d.Image) }

func (d data) Damage() error { return DamageOf(d.Image) }

func (d data) Locate(off, limit int64, read bool) (f File, at, n int64) {
	return Locate(d.Image, off, limit, read)
}

func (d data) ReadFor(p []byte, off int64, use Use) (int, error) {
	return ReadFor(d.Image, p, off, use)
}
