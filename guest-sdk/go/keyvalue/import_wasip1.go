package keyvalue

import (
	"sandhog/internal/abi"
	"sandhog/internal/host"
)

// memory is for a value of 1 MiB, or for a page of 1000 keys of 1 KiB.
var memory [1088 << 10]byte

func init() { abi.ReceiveResults(memory[:]) }

type bucket = abi.Bucket

func open(store string) (bucket, *host.KeyValueError) { return abi.OpenBucket(store) }
