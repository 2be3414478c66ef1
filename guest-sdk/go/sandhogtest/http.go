package sandhogtest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"sandhog/internal/host"
	"sandhog/internal/route"
)

func init() { route.Native() }

// Request is an HTTP request that a handler made.
type Request struct {
	Method string
	URL    string
	Header http.Header
	Body   []byte
}

// Serve makes a function answer the requests of a handler. One that does not answer until the request's context
// is done is a server that never does.
//
// To answer with an error instead, such as &sandhoghttp.Error{Code: "connection-refused"}, use [Answer].
func Serve(server http.HandlerFunc) http.RoundTripper {
	return Answer(func(request *http.Request) (*http.Response, error) {
		answered := make(chan *http.Response, 1)
		go func() {
			recorder := httptest.NewRecorder()
			server(recorder, request)
			answered <- recorder.Result()
		}()
		select {
		case response := <-answered:
			return response, request.Context().Err()
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	})
}

// Answer is a function that answers requests with responses or errors.
type Answer func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (a Answer) RoundTrip(request *http.Request) (*http.Response, error) {
	return a(request)
}

// network is what the requests of a handler go to.
type network struct {
	servers  http.RoundTripper
	mutex    sync.Mutex
	requests []Request
}

func (n *network) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		defer request.Body.Close()
		read, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		body = read
	}
	n.mutex.Lock()
	made := Request{request.Method, request.URL.String(), request.Header.Clone(), slices.Clone(body)}
	n.requests = append(n.requests, made)
	n.mutex.Unlock()
	switch {
	case host.HTTPErrorOf == nil:
		return nil, errors.New("nothing goes out of a handler that does not import sandhog/http")
	case n.servers == nil:
		return nil, host.HTTPErrorOf("HTTP-request-denied", request.URL.Scheme+"://"+request.URL.Host)
	}
	request = request.Clone(request.Context())
	request.Body = io.NopCloser(bytes.NewReader(body))
	response, err := n.servers.RoundTrip(request)
	if response != nil {
		response.Request = request
	}
	return response, err
}
