// Package crash says of a panic what its author wants to know.
package crash

import (
	"fmt"
	"runtime"
	"strings"
)

// Reason returns what Go prints of the value of a panic.
func Reason(value any) string {
	var text string
	switch value := value.(type) {
	case error:
		text = value.Error()
	case fmt.Stringer:
		text = value.String()
	case string:
		text = value
	default:
		text = fmt.Sprintf("%T(%v)", value, value)
	}
	return "panic: " + strings.ToValidUTF8(text, "\uFFFD")
}

// unshown are the packages whose functions are in every stack.
var unshown = []string{
	"runtime.", "sandhog.", "sandhog/batch.", "sandhog/internal/abi.", "sandhog/internal/crash.", "sandhog/worker.",
}

// Stack returns the functions that were running, the innermost first, each with its file and line. A deferred
// function calls it that has recovered from a panic.
func Stack() string {
	counters := make([]uintptr, 64)
	frames := runtime.CallersFrames(counters[:runtime.Callers(1, counters)])
	var lines []string
	for {
		frame, more := frames.Next()
		if isShown(frame.Function) {
			lines = append(lines, fmt.Sprintf("%s at %s:%d", frame.Function, frame.File, frame.Line))
		}
		if !more {
			return strings.ToValidUTF8(strings.Join(lines, "\n"), "\uFFFD")
		}
	}
}

func isShown(function string) bool {
	for _, prefix := range unshown {
		if strings.HasPrefix(function, prefix) {
			return false
		}
	}
	return function != ""
}
