package route

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
)

// A clone of the default transport does not have the protocols that were registered with it, but it has its
// dialers. So these return a connection with somebody at the other end who reads HTTP/1.1 and passes the request on: a
// connection to a server, as far as net/http can tell, that is closed after one response.

type dialer struct {
	scheme string
	to     http.RoundTripper
}

func (d dialer) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	connection := &connection{Conn: near, cancel: cancel}
	go connection.serve(ctx, d, far)
	return connection, nil
}

// connection is the near end. Whoever closes it gives up what is under way.
type connection struct {
	net.Conn
	cancel context.CancelFunc
	mutex  sync.Mutex
	failed error
}

// Read reads from the far end, and at its end returns why there is no response, if there is none.
func (c *connection) Read(into []byte) (int, error) {
	size, err := c.Conn.Read(into)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if err == io.EOF && c.failed != nil {
		err = c.failed
	}
	return size, err
}

func (c *connection) Close() error {
	c.cancel()
	return c.Conn.Close()
}

// serve answers one request, as the server would.
func (c *connection) serve(ctx context.Context, d dialer, far net.Conn) {
	defer far.Close()
	request, err := http.ReadRequest(bufio.NewReader(far))
	if err != nil {
		return
	}
	request.URL.Scheme, request.URL.Host, request.RequestURI = d.scheme, request.Host, ""
	if request.Header.Get("Expect") != "" {
		// The body is sent in any case, and net/http waits for this before it does.
		request.Header.Del("Expect")
		io.WriteString(far, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	response, err := d.to.RoundTrip(request.WithContext(ctx))
	if err != nil {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.failed = err
		return
	}
	defer response.Body.Close()
	response.Proto, response.ProtoMajor, response.ProtoMinor, response.Close = "HTTP/1.1", 1, 1, true
	response.Write(far)
}
