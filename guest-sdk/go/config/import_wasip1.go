package config

import (
	"sandhog/internal/abi"
	"sandhog/internal/host"
)

// memory is for all values together.
var memory [1 << 20]byte

func init() {
	abi.ReceiveResults(memory[:])
	host.CurrentConfig = abi.Config{}
}
