//go:build wasip1

package abi

import "sandhog/internal/crash"

//go:wasmimport sandhog:worker/crash@0.1.0 report
//go:noescape
func importReport(reason, stack string)

// trap ends the attempt, and prints nothing.
func trap()

// reportPanic is to be deferred. It lets the host say why the attempt ends, where Go would print it with the stack
// of every goroutine.
func reportPanic() {
	if value := recover(); value != nil {
		importReport(crash.Reason(value), crash.Stack())
		trap()
	}
}
