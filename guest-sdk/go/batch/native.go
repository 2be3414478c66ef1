//go:build !wasip1

package batch

const hosted = false

var _ = handle
