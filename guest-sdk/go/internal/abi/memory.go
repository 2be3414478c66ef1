//go:build wasip1

package abi

import "unsafe"

// The host, and the adapter for WASI that it adds, put what they pass into memory that they ask for here.
// While they ask, nothing of the host may be called. Go's allocator would: it collects, reads clocks, polls,
// and switches goroutines. Go's runtime also assumes that nobody else grows the memory.
//
// So all of it goes into buffers that exist from the start, and is copied into ordinary Go memory as soon
// as Go code runs. A buffer that is not used costs address space and no memory.
var (
	// adapterMemory is for the adapter's stack and state, 64 KiB each, which it keeps for ever.
	adapterMemory [256 << 10]byte
	adapterUsed   uint32

	// messageMemory is for the messages of one call. Which size it needs, their package knows.
	messageMemory []byte
	messageUsed   uint32

	// resultMemory is for what one call of an import returns. The text of an error fits into textMemory; whoever
	// imports more knows which size it needs.
	textMemory   [64 << 10]byte
	resultMemory = textMemory[:]
	resultUsed   uint32
)

// Receive sets the memory for the messages of one call.
func Receive(memory []byte) {
	messageMemory = memory
}

// ReceiveResults sets the memory for what one call of an import returns, unless it is larger already.
func ReceiveResults(memory []byte) {
	if len(memory) > len(resultMemory) {
		resultMemory = memory
	}
}

//go:wasmexport cabi_realloc
//go:nosplit
func reallocForMessage(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	return moved(take(messageMemory, &messageUsed, align, size), old, min(oldSize, size))
}

//go:wasmexport cabi_import_realloc
//go:nosplit
func reallocForResult(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	return moved(take(resultMemory, &resultUsed, align, size), old, min(oldSize, size))
}

// reallocForAdapter runs before Go's runtime has been initialised.
//
//go:wasmexport cabi_realloc_adapter
//go:nosplit
func reallocForAdapter(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	return moved(take(adapterMemory[:], &adapterUsed, align, size), old, min(oldSize, size))
}

// take cuts a piece off a buffer. Where too little is left it returns an address that is none, at which the
// host ends the attempt: nothing can be reported from here.
//
//go:nosplit
func take(buffer []byte, used *uint32, align, size uint32) unsafe.Pointer {
	base := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(buffer))))
	align = max(align, 1)
	start := (base+*used+align-1)/align*align - base
	if uint64(start)+uint64(size) > uint64(len(buffer)) {
		return unsafe.Pointer(uintptr(0xffff_fff8))
	}
	*used = start + size
	return unsafe.Pointer(uintptr(base + start))
}

//go:nosplit
func moved(to, from unsafe.Pointer, size uint32) unsafe.Pointer {
	if size > 0 {
		copy(unsafe.Slice((*byte)(to), size), unsafe.Slice((*byte)(from), size))
	}
	return to
}

// bytesAt returns a copy of bytes that the host has put into memory.
func bytesAt(address, length uint32) []byte {
	if length == 0 {
		return []byte{}
	}
	return append([]byte{}, listAt[byte](address, length)...)
}

// textAt returns a copy of text that the host has put into memory.
func textAt(address, length uint32) string {
	return string(listAt[byte](address, length))
}

// listAt returns a list that the host has put into memory. It is not copied: the next call overwrites it.
func listAt[T any](address, length uint32) []T {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(address))), length)
}

// lowered is what an address was taken of last. What is stored here is never on a stack, which moves when it
// grows, and leaves the addresses of what is on it behind.
var lowered unsafe.Pointer

func addressOfText(text string) (address, length uint32) {
	if text == "" {
		return 0, 0
	}
	lowered = unsafe.Pointer(unsafe.StringData(text))
	return uint32(uintptr(lowered)), uint32(len(text))
}

func addressOfList[T any](list []T) (address, length uint32) {
	if len(list) == 0 {
		return 0, 0
	}
	lowered = unsafe.Pointer(unsafe.SliceData(list))
	return uint32(uintptr(lowered)), uint32(len(list))
}
