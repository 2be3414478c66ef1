// Package route leads what goes through the default transport of net/http elsewhere: to the host, or to a test.
//
// The transport itself stays, since programs keep it, clone it, and rely on its type. So what was made of it earlier is led as well.
package route

import "net/http"

// Lead makes a transport, and every clone of it from now on, pass its requests on. It returns a transport that is as this
// one was.
func Lead(transport *http.Transport, to http.RoundTripper) (before *http.Transport) {
	protocols := transport.Protocols
	// Otherwise net/http would register its HTTP/2 for https, and complain that there is one.
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	before = transport.Clone()
	before.Protocols = protocols
	for _, scheme := range []string{"http", "https"} {
		register(transport, scheme, to)
	}
	transport.DialContext = dialer{"http", to}.dial
	transport.DialTLSContext = dialer{"https", to}.dial
	transport.Proxy = nil
	return before
}

// register leaves a scheme to the dialers that is taken: if somebody has cloned the transport before, HTTP/2 is there, and
// has no connections.
func register(transport *http.Transport, scheme string, to http.RoundTripper) {
	defer func() { recover() }()
	transport.RegisterProtocol(scheme, to)
}
