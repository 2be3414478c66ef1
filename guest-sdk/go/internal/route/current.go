package route

import (
	"net/http"
	"sync"
)

// native is where the requests of a native program go: to a test while it runs a handler, and else to the network.
var native struct {
	mutex   sync.Mutex
	test    http.RoundTripper
	network http.RoundTripper
}

// Native leads the default transport to wherever [ToTest] says. It is called before a handler's package can keep the transport.
func Native() {
	native.mutex.Lock()
	defer native.mutex.Unlock()
	if standard, ok := http.DefaultTransport.(*http.Transport); ok && native.network == nil {
		native.network = Lead(standard, current{})
	}
}

// ToTest leads requests to a test, and returns what ends that.
func ToTest(test http.RoundTripper) (end func()) {
	native.mutex.Lock()
	defer native.mutex.Unlock()
	before := http.DefaultTransport
	if native.network == nil {
		// It was of a foreign type from the start.
		http.DefaultTransport = test
	}
	native.test = test
	return func() {
		native.mutex.Lock()
		defer native.mutex.Unlock()
		native.test, http.DefaultTransport = nil, before
	}
}

type current struct{}

func (current) RoundTrip(request *http.Request) (*http.Response, error) {
	native.mutex.Lock()
	to := native.test
	if to == nil {
		to = native.network
	}
	native.mutex.Unlock()
	return to.RoundTrip(request)
}
