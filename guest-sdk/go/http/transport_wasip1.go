package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"sandhog/internal/abi"
	"sandhog/internal/host"
	"sandhog/internal/route"
)

// memory is for the headers of one response: 64 KiB, and some more for each of them.
var memory [512 << 10]byte

// The default transport keeps its type, which libraries rely on, and leaves both schemes to the host.
func init() {
	abi.ReceiveResults(memory[:])
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		route.Lead(standard, transport{})
	}
}

type transport struct{}

// unsent are the headers that a connection needs, and the host writes.
var unsent = []string{
	"Connection", "Content-Length", "Host", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Trailer", "Transfer-Encoding", "Upgrade",
}

// bodied are the methods whose requests say so if they have no body.
var bodied = []string{http.MethodPost, http.MethodPut, http.MethodPatch}

// RoundTrip sends a request, and returns when the head of its response is there. The body of the request is
// written in the meantime, and on.
func (transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body := request.Body
	if body == nil {
		body = http.NoBody
	}
	if err := check(request); err != nil {
		body.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(request.Context())
	trip := &trip{ctx: ctx, cancel: cancel, origin: request.URL.Scheme + "://" + request.URL.Host}
	head, unzip := headOf(request)
	future, written, err := abi.SendRequest(head, body != http.NoBody)
	if err != nil {
		body.Close()
		return nil, trip.end(err)
	}
	if written == nil {
		body.Close()
	} else {
		go trip.upload(written, body, request)
	}
	answer, received, err := future.Wait(ctx.Done())
	if err != nil {
		return nil, trip.end(err)
	}
	return trip.response(request, answer, received, unzip), nil
}

func check(request *http.Request) error {
	switch {
	case request.URL.Host == "":
		return errors.New("http: no Host in request URL")
	case request.Host != "" && withoutDefaultPort(request, request.Host) != withoutDefaultPort(request, request.URL.Host):
		return fmt.Errorf("the host sends the Host of the URL, %s, and no other: %s", request.URL.Host, request.Host)
	}
	return request.Context().Err()
}

func withoutDefaultPort(request *http.Request, host string) string {
	port := map[string]string{"http": ":80", "https": ":443"}[request.URL.Scheme]
	return strings.TrimSuffix(host, port)
}

// headOf returns the head of a request for the host, and whether net/http would unzip the response unasked.
func headOf(request *http.Request) (*host.HTTPRequest, bool) {
	head := &host.HTTPRequest{
		Method:    request.Method,
		Scheme:    request.URL.Scheme,
		Authority: request.URL.Host,
		Path:      request.URL.RequestURI(),
	}
	if head.Method == "" {
		head.Method = http.MethodGet
	}
	set := func(name, value string) { head.Fields = append(head.Fields, host.HTTPField{Name: name, Value: value}) }
	for name, values := range request.Header {
		if slices.Contains(unsent, name) || name == "User-Agent" && values[0] == "" {
			continue
		}
		for _, value := range values {
			set(name, value)
		}
	}
	if _, named := request.Header["User-Agent"]; !named {
		set("User-Agent", "Go-http-client/1.1")
	}
	hasBody := request.Body != nil && request.Body != http.NoBody
	if request.ContentLength > 0 || !hasBody && slices.Contains(bodied, head.Method) {
		set("Content-Length", strconv.FormatInt(request.ContentLength, 10))
	}
	for name := range request.Trailer {
		set("Trailer", name)
	}
	header := request.Header.Get
	unzip := header("Accept-Encoding") == "" && header("Range") == "" && head.Method != http.MethodHead && compresses()
	if unzip {
		set("Accept-Encoding", "gzip")
	}
	return head, unzip
}

func compresses() bool {
	standard, ok := http.DefaultTransport.(*http.Transport)
	return !ok || !standard.DisableCompression
}

// trip is a request under way, until the end of its response. Its context ends with it.
type trip struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	origin string
}

// end ends the trip for a reason, and returns the error for the caller. If it has ended, whoever ended it has said
// why: the caller's context, or the body of the request.
func (t *trip) end(err error) error {
	var failed *host.HTTPError
	switch {
	case t.ctx.Err() != nil:
		return context.Cause(t.ctx)
	case errors.As(err, &failed):
		err = errorOf(failed.Name(), failed.Text, t.origin)
	}
	t.cancel(err)
	return err
}

// upload writes the body of the request. If it can't be read, the request fails for that reason.
func (t *trip) upload(written *abi.RequestBody, body io.ReadCloser, request *http.Request) {
	defer body.Close()
	piece := make([]byte, 16<<10)
	for left := request.ContentLength; ; {
		size, err := body.Read(piece)
		left -= int64(size)
		tooLong := request.ContentLength > 0 && left < 0
		tooShort := request.ContentLength > 0 && left > 0 && err == io.EOF
		switch {
		case tooLong || tooShort:
			err = fmt.Errorf("http: ContentLength=%d with a body of another length", request.ContentLength)
		case size > 0 && written.Write(t.ctx.Done(), piece[:size]) != nil:
			// The server wants no more of it. Its response says why, or the error that comes instead.
			written.Abandon()
			return
		case err == io.EOF:
			if err := written.Finish(fieldsOf(request.Trailer)); err != nil {
				t.end(err)
			}
			return
		}
		if err != nil {
			written.Abandon()
			t.cancel(err)
			return
		}
	}
}

func fieldsOf(header http.Header) []host.HTTPField {
	var fields []host.HTTPField
	for name, values := range header {
		for _, value := range values {
			fields = append(fields, host.HTTPField{Name: name, Value: value})
		}
	}
	return fields
}

func headerOf(fields []host.HTTPField) http.Header {
	header := http.Header{}
	for _, field := range fields {
		header.Add(field.Name, field.Value)
	}
	return header
}

// response returns the response for the caller, unzipped if net/http had asked for it.
func (t *trip) response(
	request *http.Request, head *host.HTTPResponse, received *abi.ResponseBody, unzip bool,
) *http.Response {
	response := &http.Response{
		Status:        strings.TrimSpace(strconv.Itoa(head.Status) + " " + http.StatusText(head.Status)),
		StatusCode:    head.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        headerOf(head.Fields),
		ContentLength: -1,
		Request:       request,
	}
	if length, err := strconv.ParseInt(response.Header.Get("Content-Length"), 10, 64); err == nil {
		response.ContentLength = length
	}
	for _, names := range response.Header["Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			if response.Trailer == nil {
				response.Trailer = http.Header{}
			}
			response.Trailer[http.CanonicalHeaderKey(strings.TrimSpace(name))] = nil
		}
	}
	response.Header.Del("Trailer")
	body := &responseBody{trip: t, body: received, trailer: response.Trailer}
	response.Body = body
	switch {
	case request.Method == http.MethodHead || response.ContentLength == 0,
		head.Status == http.StatusNoContent, head.Status == http.StatusNotModified:
		body.Close()
		response.Body = http.NoBody
		response.ContentLength = max(response.ContentLength, 0)
	case unzip && strings.EqualFold(response.Header.Get("Content-Encoding"), "gzip"):
		response.Body = &unzipped{body: body}
		response.Header.Del("Content-Encoding")
		response.Header.Del("Content-Length")
		response.ContentLength = -1
		response.Uncompressed = true
	}
	return response
}
