//go:build wasip1

package abi

import (
	"sync"
	"unsafe"
)

// words is what the host writes at the address that a call gives it: records and variants, of which each part
// begins at a word. A part of fewer than four bytes leaves the rest of its word as it was.
type words [16]uint32

// answered is here, and not on a stack: stacks move when they grow, and the host knows only addresses. One
// goroutine at a time may use it.
var answered struct {
	sync.Mutex
	_     [0]uint64 // variants with 64-bit parts begin at multiples of 8
	words words
}

// ask makes a call of the host, and reads what it answers before another call overwrites it.
func ask[T any](call func(answer unsafe.Pointer), read func(answer *words) T) T {
	answered.Lock()
	defer answered.Unlock()
	resultUsed = 0
	call(unsafe.Pointer(&answered.words))
	return read(&answered.words)
}

// byte returns the byte with which a part begins: the number of a variant's case, or whether there is a value.
func (w *words) byte(at int) uint8 {
	return uint8(w[at])
}

func (w *words) uint64(at int) uint64 {
	return uint64(w[at]) | uint64(w[at+1])<<32
}

func (w *words) text(at int) string {
	return textAt(w[at], w[at+1])
}

func (w *words) bytes(at int) []byte {
	return bytesAt(w[at], w[at+1])
}
