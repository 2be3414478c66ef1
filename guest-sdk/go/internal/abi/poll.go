//go:build wasip1

package abi

import (
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"
)

// Goroutines take turns on one thread, so a call of the host that waits keeps all of them waiting. What takes
// its time is therefore a pollable, and one goroutine, the poller, waits for all pollables at once.
//
// While the poller waits, no timer of Go's fires and no other goroutine runs. So it lets the others run first,
// waits only when they did nothing, and never for longer than longestPause.
const (
	shortestPause = 100 * time.Microsecond
	longestPause  = 10 * time.Millisecond
)

//go:wasmimport wasi:io/poll@0.2.12 poll
//go:noescape
func importPoll(pollables, length uint32, ready unsafe.Pointer)

//go:wasmimport wasi:io/poll@0.2.12 [resource-drop]pollable
func dropPollable(pollable uint32)

//go:wasmimport wasi:clocks/monotonic-clock@0.2.12 subscribe-duration
func subscribeDuration(nanoseconds uint64) uint32

type waiter struct {
	pollable uint32
	ready    chan struct{}
}

var poller struct {
	sync.Mutex
	waiters []*waiter
	running bool
}

// wait blocks this goroutine until the pollable is ready, and drops it. It returns false if done was closed
// first.
func wait(done <-chan struct{}, pollable uint32) bool {
	defer dropPollable(pollable)
	this := &waiter{pollable, make(chan struct{})}
	poller.Lock()
	poller.waiters = append(poller.waiters, this)
	if !poller.running {
		poller.running = true
		go poll()
	}
	poller.Unlock()
	select {
	case <-this.ready:
		return true
	case <-done:
		poller.Lock()
		defer poller.Unlock()
		poller.waiters = slices.DeleteFunc(poller.waiters, func(other *waiter) bool { return other == this })
		return false
	}
}

// poll waits for pollables until nobody waits for one.
func poll() {
	pause := time.Duration(0)
	for pollFor(pause) {
		if othersRan() {
			pause = 0
		} else {
			pause = min(max(2*pause, shortestPause), longestPause)
		}
	}
}

// othersRan lets all other goroutines run until they wait, and returns whether there was anything to do for
// them. Go does not say, but an idle scheduler takes hardly longer than the clock.
func othersRan() bool {
	before := time.Now()
	began := time.Now()
	runtime.Gosched()
	return time.Since(began) > 10*time.Microsecond+4*began.Sub(before)
}

// pollFor wakes those whose pollable is ready, and waits for the first one at most for this long. It returns
// false if nobody waits any more.
func pollFor(pause time.Duration) bool {
	poller.Lock()
	defer poller.Unlock()
	if len(poller.waiters) == 0 {
		poller.running = false
		return false
	}
	timer := subscribeDuration(uint64(pause))
	defer dropPollable(timer)
	pollables := make([]uint32, 0, len(poller.waiters)+1)
	for _, waiter := range poller.waiters {
		pollables = append(pollables, waiter.pollable)
	}
	pollables = append(pollables, timer)
	address, length := addressOfList(pollables)
	ready := ask(func(answer unsafe.Pointer) {
		importPoll(address, length, answer)
		runtime.KeepAlive(pollables)
	}, func(answer *words) []uint32 { return slices.Clone(listAt[uint32](answer[0], answer[1])) })
	left := poller.waiters[:0:0]
	for i, waiter := range poller.waiters {
		if slices.Contains(ready, uint32(i)) {
			close(waiter.ready)
		} else {
			left = append(left, waiter)
		}
	}
	poller.waiters = left
	return true
}
