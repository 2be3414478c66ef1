package crash_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sandhog/internal/crash"
)

// after runs a function that panics, and returns the reason and the stack.
func after(panics func()) (reason, stack string) {
	defer func() {
		reason, stack = crash.Reason(recover()), crash.Stack()
	}()
	panics()
	return "", ""
}

func TestTheReasonIsWhatGoPrints(t *testing.T) {
	var list []int
	for want, panics := range map[string]func(){
		"panic: runtime error: index out of range [5] with length 0": func() { _ = list[5] },
		"panic: why: cause": func() { panic(fmt.Errorf("why: %w", errors.New("cause"))) },
		"panic: text":       func() { panic("text") },
		"panic: 1m0s":       func() { panic(time.Minute) },
		"panic: int(7)":     func() { panic(7) },
		"panic: bad \uFFFD": func() { panic("bad \xff") },
	} {
		if reason, _ := after(panics); reason != want {
			t.Errorf("%q is not %q", reason, want)
		}
	}
}

func outer(list []int) { inner(list) }

func inner(list []int) { _ = list[5] }

func TestTheStackIsThatOfTheAuthorFromInsideOut(t *testing.T) {
	_, stack := after(func() { outer(nil) })
	lines := strings.Split(stack, "\n")
	if len(lines) < 3 || !strings.HasPrefix(lines[1], "sandhog/internal/crash_test.inner at ") ||
		!strings.HasPrefix(lines[2], "sandhog/internal/crash_test.outer at ") || !strings.Contains(lines[1], "crash_test.go:") {
		t.Error(stack)
	}
	if strings.Contains(stack, "runtime.") || strings.Contains(stack, "crash.Stack") {
		t.Error(stack)
	}
}
