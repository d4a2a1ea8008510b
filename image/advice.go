package image

import "io"

// Advice says how to read from something, by what its requests cost.
type Advice struct {
	Request int // how many bytes one read should ask for at most
	Bridge  int // how many bytes that nobody wants cost no more to read than a request does
	Depth   int // how many small reads at once take no longer than one
}

// The advice for readers that give none: of files, mostly. A call costs more
// than a short gap even where nothing has to seek.
const (
	DefaultRequest = 1 << 20
	DefaultBridge  = 32 << 10
)

// An Adviser is a reader that knows how it is best read.
type Adviser interface {
	Advice() Advice
}

// AdviceOf returns what r says of itself, else the defaults.
func AdviceOf(r io.ReaderAt) Advice {
	if a, ok := r.(Adviser); ok {
		return a.Advice()
	}
	return Advice{Request: DefaultRequest, Bridge: DefaultBridge, Depth: 1}
}
