package batch

import (
	"unsafe"

	"sandhog/internal/abi"
)

const hosted = true

// memory is for one batch as the host passes it: a dozen messages of the largest size.
var memory [17 << 20]byte

func init() { abi.Receive(memory[:]) }

//go:wasmexport sandhog:worker/batch-handler@0.1.0#handle-batch
func export(messages, length uint32) unsafe.Pointer {
	return abi.HandleBatch(handle, messages, length)
}
