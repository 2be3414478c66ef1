//go:build !wasip1

package worker

const hosted = false

var _ = handle
