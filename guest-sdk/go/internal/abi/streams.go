//go:build wasip1

package abi

import (
	"io"
	"unsafe"

	"sandhog/internal/host"
)

// chunk is the most that is read from a stream in one go. It fits into resultMemory.
const chunk = 32 << 10

//go:wasmimport wasi:io/streams@0.2.12 [method]input-stream.read
//go:noescape
func importInputRead(stream uint32, length uint64, result unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.12 [method]input-stream.subscribe
func subscribeInput(stream uint32) uint32

//go:wasmimport wasi:io/streams@0.2.12 [resource-drop]input-stream
func dropInput(stream uint32)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.check-write
//go:noescape
func importOutputCheckWrite(stream uint32, result unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.write
//go:noescape
func importOutputWrite(stream uint32, contents unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.subscribe
func subscribeOutput(stream uint32) uint32

//go:wasmimport wasi:io/streams@0.2.12 [resource-drop]output-stream
func dropOutput(stream uint32)

//go:wasmimport wasi:io/error@0.2.12 [method]error.to-debug-string
//go:noescape
func importErrorToDebugString(err uint32, result unsafe.Pointer)

//go:wasmimport wasi:io/error@0.2.12 [resource-drop]error
func dropError(err uint32)

// read reads what is there, which may be nothing. Its error is io.EOF at the end.
func read(stream uint32, into []byte) (int, error) {
	var failed streamFailure
	size := ask(func(result unsafe.Pointer) {
		importInputRead(stream, uint64(min(len(into), chunk)), result)
	}, func(answer *words) int {
		if answer.byte(0) != 0 {
			failed = answer.streamFailure(1)
			return 0
		}
		return copy(into, listAt[byte](answer[1], answer[2]))
	})
	return size, failed.error(io.EOF)
}

// checkWrite returns how much may be written now.
func checkWrite(stream uint32) (uint64, error) {
	var failed streamFailure
	room := ask(func(result unsafe.Pointer) { importOutputCheckWrite(stream, result) }, func(answer *words) uint64 {
		if answer.byte(0) != 0 {
			failed = answer.streamFailure(2)
			return 0
		}
		return answer.uint64(2)
	})
	return room, failed.error(io.ErrClosedPipe)
}

func write(stream uint32, contents []byte) error {
	data := unsafe.Pointer(unsafe.SliceData(contents))
	length := uint32(len(contents))
	failed := ask(func(result unsafe.Pointer) {
		importOutputWrite(stream, data, length, result)
	}, func(answer *words) streamFailure {
		if answer.byte(0) != 0 {
			return answer.streamFailure(1)
		}
		return streamFailure{}
	})
	return failed.error(io.ErrClosedPipe)
}

// streamFailure is a stream-error. What it says of itself is another question to the host, when this one has
// been answered.
type streamFailure struct {
	is     bool
	closed bool
	reason uint32
}

func (w *words) streamFailure(at int) streamFailure {
	return streamFailure{is: true, closed: w.byte(at) != 0, reason: w[at+1]}
}

// error returns why a stream failed, or what a closed one means.
func (f streamFailure) error(closed error) error {
	switch {
	case !f.is:
		return nil
	case f.closed:
		return closed
	}
	defer dropError(f.reason)
	code := ask(func(result unsafe.Pointer) { importHTTPErrorCode(f.reason, result) }, func(answer *words) error {
		if answer.byte(0) == 0 {
			return nil
		}
		return answer.httpError(2)
	})
	if code != nil {
		return code
	}
	// The engine has no code for an error in the body of a response, but its words.
	return host.HTTPErrorOfText(ask(func(result unsafe.Pointer) {
		importErrorToDebugString(f.reason, result)
	}, func(answer *words) string { return answer.text(0) }))
}
