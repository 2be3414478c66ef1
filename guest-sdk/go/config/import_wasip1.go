package config

import "sandhog/internal/abi"

// memory is for all values together.
var memory [1 << 20]byte

func init() { abi.ReceiveResults(memory[:]) }

func get(name string) (string, bool, error) { return abi.ConfigGet(name) }

func all() (map[string]string, error) { return abi.ConfigAll() }
