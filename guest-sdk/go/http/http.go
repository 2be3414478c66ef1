// Package http lets net/http reach the servers that the manifest grants. It is enough to import it:
//
//	import (
//		"net/http"
//
//		_ "sandhog/http"
//	)
//
// From then on [net/http.DefaultTransport] goes through the host, and with it [net/http.Get], the clients that
// name no transport of their own, and what is built on them. A client that makes its own [net/http.Transport]
// has no network to connect to: give it [net/http.DefaultClient] or DefaultTransport.
//
// The manifest names the servers:
//
//	[grant]
//	http = ["https://api.example.com"]
//
// The context of a request, and the Timeout of a client, end a request in the host as well. Without them the end
// of the attempt does. Bodies are streamed both ways. Requests of several goroutines are under way at the same
// time, as many as limits.http-concurrent says: read a body to its end or close it, so that the next one has its
// turn. While goroutines wait for servers, timers are late by up to 10 ms.
//
// What the host decides, net/http can't: TLS, HTTP/2, proxies and connections. So Response.TLS is nil, Proto is
// always HTTP/1.1, the settings of DefaultTransport have no effect but DisableCompression, and the header Host is
// that of the URL.
//
// In a test sandhogtest.Host says what the servers answer.
package http

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sandhog"
	"sandhog/internal/host"
)

// Error is why there is no response, or only a part of one. A client of net/http wraps it in a url.Error: use
// [errors.As], or [errors.Is] with
//
//   - [sandhog.ErrNotGranted]: the manifest does not grant the server, or as many requests;
//   - [sandhog.ErrLimit]: the bodies of the attempt have more bytes than they may;
//   - [context.DeadlineExceeded]: the server, or the way to it, took too long for the host;
//   - [syscall.ECONNREFUSED]: nobody listens there.
type Error struct {
	// Code is the name of the error in wasi:http, such as "connection-refused".
	Code string

	text string
}

// The errors of wasi:http that mean something else in Go as well.
var (
	notGranted = []string{"HTTP-request-denied", "destination-IP-prohibited"}
	tooLarge   = []string{"HTTP-request-body-size", "HTTP-response-body-size"}
	timeouts   = []string{
		"DNS-timeout", "connection-timeout", "connection-read-timeout", "connection-write-timeout", "HTTP-response-timeout",
	}
)

// Error says what happened to which server, and what the manifest lacks.
func (e *Error) Error() string {
	if e.text == "" {
		return strings.ReplaceAll(e.Code, "-", " ")
	}
	return e.text
}

// Timeout returns whether something took too long.
func (e *Error) Timeout() bool {
	return slices.Contains(timeouts, e.Code)
}

// Temporary is for [net.Error], and returns the same as Timeout.
func (e *Error) Temporary() bool {
	return e.Timeout()
}

// Is returns whether the error is of the kind of target: see [Error].
func (e *Error) Is(target error) bool {
	switch target {
	case sandhog.ErrNotGranted:
		return slices.Contains(notGranted, e.Code)
	case sandhog.ErrLimit:
		return slices.Contains(tooLarge, e.Code)
	case context.DeadlineExceeded, os.ErrDeadlineExceeded:
		return e.Timeout()
	case syscall.ECONNREFUSED:
		return e.Code == "connection-refused"
	}
	return false
}

// NewJSONRequest makes a request with a value's JSON as the body.
func NewJSONRequest(ctx context.Context, method, url string, value any) (*http.Request, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

// Check returns what a response that is no success means for the message: [RetryAfter] for the status 429 or 503,
// [sandhog.Reject] for any other from 400 to 499, since the same request would fail again, and else
// [sandhog.Retry]. For 200 to 299 it returns nil.
func Check(response *http.Response) error {
	switch status := response.StatusCode; {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return RetryAfter(response)
	case status >= 400 && status < 500:
		return sandhog.Reject("the server answered %s", response.Status)
	}
	return sandhog.Retry("the server answered %s", response.Status)
}

// RetryAfter makes the failure for a server that asks to come back later, as it does with the status 429 or 503: a
// [sandhog.RetryAfter] with the delay of the response's header Retry-After, and a [sandhog.Retry] if there is none.
func RetryAfter(response *http.Response) error {
	header := response.Header.Get("Retry-After")
	delay := time.Duration(-1)
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		delay = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(header); err == nil {
		delay = max(time.Until(date), 0)
	}
	const reason = "the server asks to come back later: %s"
	if delay < 0 {
		return sandhog.Retry(reason, response.Status)
	}
	return sandhog.RetryAfter(delay, reason, response.Status)
}

func init() {
	host.HTTPErrorOf = func(code, origin string) error { return errorOf(code, "", origin) }
}

// errorOf says what an error of the host means for a request to an origin. Some of them have a text.
func errorOf(code, text, origin string) *Error {
	err := &Error{Code: code}
	switch code {
	case "HTTP-request-denied":
		err.text = origin + " is not granted: add \"" + origin + "\" to http in [grant] of the manifest; if it is there, " +
			"the attempt has made as many requests as limits.http-requests says"
	case "destination-IP-prohibited":
		err.text = origin + " leads to an address that is not public: to grant it nevertheless, add the address to " +
			"http-addresses in [grant] of the manifest; the log has it"
	case "HTTP-request-body-size":
		err.text = origin + ": the attempt has sent as many bytes as limits.http-request-bytes says"
	case "HTTP-response-body-size":
		err.text = origin + ": the attempt has received as many bytes as limits.http-response-bytes says"
	case "HTTP-request-header-section-size":
		err.text = origin + ": the headers of the request have more than some 16 KiB"
	case "connection-limit-reached":
		err.text = origin + ": as many requests are under way as limits.http-concurrent says: read bodies to their end, " +
			"or close them"
	default:
		err.text = origin + ": " + strings.ReplaceAll(code, "-", " ")
		if text != "" {
			err.text += ": " + text
		}
	}
	return err
}
