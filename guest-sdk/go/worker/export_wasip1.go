package worker

import (
	"unsafe"

	"sandhog/internal/abi"
)

const hosted = true

// memory is for one message as the host passes it: a body of 1 MiB, attributes of 256 KiB, and the rest.
var memory [1536 << 10]byte

func init() { abi.Receive(memory[:]) }

//go:wasmexport sandhog:worker/handler@0.1.0#handle
func export(id, idLength, body, bodyLength, attributes, attributesLength, queue, queueLength, receiveCount uint32,
	sentAtMs uint64, hasGroupID, groupID, groupIDLength uint32) unsafe.Pointer {
	return abi.Handle(handle, id, idLength, body, bodyLength, attributes, attributesLength, queue, queueLength, receiveCount,
		sentAtMs, hasGroupID, groupID, groupIDLength)
}
