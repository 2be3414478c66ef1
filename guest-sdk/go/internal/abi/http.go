//go:build wasip1

package abi

import (
	"io"
	"runtime"
	"slices"
	"unicode/utf8"
	"unsafe"

	"sandhog/internal/host"
)

// A resource is a number, and belongs to who got it: it is passed on or dropped exactly once, and after what was
// made from it. Every function here that takes one over drops it on errors as well.

//go:wasmimport wasi:http/types@0.2.12 [static]fields.from-list
//go:noescape
func importFieldsFromList(entries, length uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [method]fields.entries
//go:noescape
func importFieldsEntries(fields uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]fields
func dropFields(fields uint32)

//go:wasmimport wasi:http/types@0.2.12 [constructor]outgoing-request
func newOutgoingRequest(headers uint32) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-method
//go:noescape
func importSetMethod(request, kind uint32, other string) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-scheme
//go:noescape
func importSetScheme(request, present, kind uint32, other string) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-authority
//go:noescape
func importSetAuthority(request, present uint32, authority string) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-path-with-query
//go:noescape
func importSetPathWithQuery(request, present uint32, path string) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.body
//go:noescape
func importOutgoingRequestBody(request uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]outgoing-request
func dropOutgoingRequest(request uint32)

//go:wasmimport wasi:http/outgoing-handler@0.2.12 handle
//go:noescape
func importHandle(request, hasOptions, options uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-body.write
//go:noescape
func importOutgoingBodyWrite(body uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [static]outgoing-body.finish
//go:noescape
func importOutgoingBodyFinish(body, hasTrailers, trailers uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]outgoing-body
func dropOutgoingBody(body uint32)

//go:wasmimport wasi:http/types@0.2.12 [method]future-incoming-response.subscribe
func subscribeResponse(future uint32) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]future-incoming-response.get
//go:noescape
func importFutureResponseGet(future uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]future-incoming-response
func dropFutureResponse(future uint32)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-response.status
func incomingResponseStatus(response uint32) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-response.headers
func incomingResponseHeaders(response uint32) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-response.consume
//go:noescape
func importIncomingResponseConsume(response uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]incoming-response
func dropIncomingResponse(response uint32)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-body.stream
//go:noescape
func importIncomingBodyStream(body uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [static]incoming-body.finish
func incomingBodyFinish(body uint32) uint32

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]incoming-body
func dropIncomingBody(body uint32)

//go:wasmimport wasi:http/types@0.2.12 [method]future-trailers.subscribe
func subscribeTrailers(future uint32) uint32

//go:wasmimport wasi:http/types@0.2.12 [method]future-trailers.get
//go:noescape
func importFutureTrailersGet(future uint32, result unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]future-trailers
func dropFutureTrailers(future uint32)

//go:wasmimport wasi:http/types@0.2.12 http-error-code
//go:noescape
func importHTTPErrorCode(err uint32, result unsafe.Pointer)

// The cases of errors that do not come from the host.
const (
	requestMethodInvalid  = 18
	requestURIInvalid     = 19
	requestHeadersTooLong = 21
	requestHeaderInvalid  = 22
)

// The host ends the attempt if the headers of a request are longer than this, with so much more for each.
const (
	maxFieldBytes   = 16 << 10
	bytesOfEachMore = 72
)

// httpMethods are the methods that have a number.
var httpMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

var httpSchemes = []string{"http", "https"}

type wireField struct {
	name, nameLength   uint32
	value, valueLength uint32
}

// ResponseFuture is a request that was sent.
type ResponseFuture struct{ future uint32 }

// RequestBody is the body of a request that was sent.
type RequestBody struct{ body, stream uint32 }

// ResponseBody is the body of a response.
type ResponseBody struct{ body, stream uint32 }

// SendRequest sends a request. Its body, if it has one, is still to be written.
func SendRequest(request *host.HTTPRequest, hasBody bool) (*ResponseFuture, *RequestBody, error) {
	fields, err := newFields(request.Fields)
	if err != nil {
		return nil, nil, err
	}
	outgoing := newOutgoingRequest(fields)
	if err := setHead(outgoing, request); err != nil {
		dropOutgoingRequest(outgoing)
		return nil, nil, err
	}
	var body *RequestBody
	if hasBody {
		body = openRequestBody(outgoing)
	}
	future, err := handle(outgoing)
	if err != nil {
		if body != nil {
			body.Abandon()
		}
		return nil, nil, err
	}
	return &ResponseFuture{future}, body, nil
}

func newFields(fields []host.HTTPField) (uint32, error) {
	entries := make([]wireField, len(fields))
	size := 0
	for i, field := range fields {
		size += len(field.Name) + len(field.Value) + bytesOfEachMore
		entries[i].name, entries[i].nameLength = addressOfText(field.Name)
		entries[i].value, entries[i].valueLength = addressOfText(field.Value)
	}
	if size > maxFieldBytes {
		return 0, &host.HTTPError{Code: requestHeadersTooLong}
	}
	address, length := addressOfList(entries)
	var err error
	made := ask(func(result unsafe.Pointer) {
		importFieldsFromList(address, length, result)
		runtime.KeepAlive(entries)
		runtime.KeepAlive(fields)
	}, func(answer *words) uint32 {
		if answer.byte(0) != 0 {
			err = &host.HTTPError{Code: requestHeaderInvalid}
		}
		return answer[1]
	})
	return made, err
}

func setHead(outgoing uint32, request *host.HTTPRequest) error {
	method, otherMethod := numbered(httpMethods, request.Method)
	scheme, otherScheme := numbered(httpSchemes, request.Scheme)
	switch {
	case !utf8.ValidString(request.Method), importSetMethod(outgoing, method, otherMethod) != 0:
		return &host.HTTPError{Code: requestMethodInvalid}
	case !utf8.ValidString(request.Authority), !utf8.ValidString(request.Path),
		importSetScheme(outgoing, 1, scheme, otherScheme) != 0,
		importSetAuthority(outgoing, 1, request.Authority) != 0,
		importSetPathWithQuery(outgoing, 1, request.Path) != 0:
		return &host.HTTPError{Code: requestURIInvalid}
	}
	return nil
}

// numbered returns the number of a word, or that of a word that has none, and the word.
func numbered(words []string, word string) (uint32, string) {
	if i := slices.Index(words, word); i >= 0 {
		return uint32(i), ""
	}
	return uint32(len(words)), word
}

// openRequestBody can't fail: it is called once for a request.
func openRequestBody(outgoing uint32) *RequestBody {
	handleOf := func(answer *words) uint32 { return answer[1] }
	body := ask(func(result unsafe.Pointer) { importOutgoingRequestBody(outgoing, result) }, handleOf)
	stream := ask(func(result unsafe.Pointer) { importOutgoingBodyWrite(body, result) }, handleOf)
	return &RequestBody{body, stream}
}

func handle(outgoing uint32) (uint32, error) {
	var err error
	future := ask(func(result unsafe.Pointer) { importHandle(outgoing, 0, 0, result) }, func(answer *words) uint32 {
		if answer.byte(0) != 0 {
			err = answer.httpError(2)
		}
		return answer[2]
	})
	return future, err
}

// Write writes to the body. Its error is io.ErrClosedPipe if the server wants no more, or if done was closed.
func (b *RequestBody) Write(done <-chan struct{}, data []byte) error {
	for len(data) > 0 {
		room, err := checkWrite(b.stream)
		if err != nil {
			return err
		}
		if room == 0 {
			if !wait(done, subscribeOutput(b.stream)) {
				return io.ErrClosedPipe
			}
			continue
		}
		size := min(room, uint64(len(data)))
		if err := write(b.stream, data[:size]); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}

// Finish says that the body is complete.
func (b *RequestBody) Finish(trailers []host.HTTPField) error {
	var hasTrailers, fields uint32
	if len(trailers) > 0 {
		made, err := newFields(trailers)
		if err != nil {
			b.Abandon()
			return err
		}
		hasTrailers, fields = 1, made
	}
	dropOutput(b.stream)
	return ask(func(result unsafe.Pointer) {
		importOutgoingBodyFinish(b.body, hasTrailers, fields, result)
	}, func(answer *words) error {
		if answer.byte(0) != 0 {
			return answer.httpError(2)
		}
		return nil
	})
}

// Abandon says that the body will not be complete: the server gets no request that looks as if it were.
func (b *RequestBody) Abandon() {
	dropOutput(b.stream)
	dropOutgoingBody(b.body)
}

// Wait waits for the response. Without one, because done was closed, the request is given up.
func (f *ResponseFuture) Wait(done <-chan struct{}) (*host.HTTPResponse, *ResponseBody, error) {
	ready := wait(done, subscribeResponse(f.future))
	if !ready {
		dropFutureResponse(f.future)
		return nil, nil, io.ErrClosedPipe
	}
	var err error
	response := ask(func(result unsafe.Pointer) {
		importFutureResponseGet(f.future, result)
	}, func(answer *words) uint32 {
		// Whether it is there, whether it was taken before, and whether it is an error.
		if answer.byte(4) != 0 {
			err = answer.httpError(6)
		}
		return answer[6]
	})
	dropFutureResponse(f.future)
	if err != nil {
		return nil, nil, err
	}
	head := &host.HTTPResponse{
		Status: int(incomingResponseStatus(response) & 0xffff),
		Fields: takeFields(incomingResponseHeaders(response)),
	}
	return head, openResponseBody(response), nil
}

// takeFields reads fields, and drops them.
func takeFields(fields uint32) []host.HTTPField {
	defer dropFields(fields)
	return ask(func(result unsafe.Pointer) {
		importFieldsEntries(fields, result)
	}, func(answer *words) []host.HTTPField {
		var taken []host.HTTPField
		for _, entry := range listAt[wireField](answer[0], answer[1]) {
			taken = append(taken, host.HTTPField{
				Name:  textAt(entry.name, entry.nameLength),
				Value: textAt(entry.value, entry.valueLength),
			})
		}
		return taken
	})
}

// openResponseBody can't fail: it is called once for a response, which it drops.
func openResponseBody(response uint32) *ResponseBody {
	handleOf := func(answer *words) uint32 { return answer[1] }
	body := ask(func(result unsafe.Pointer) { importIncomingResponseConsume(response, result) }, handleOf)
	stream := ask(func(result unsafe.Pointer) { importIncomingBodyStream(body, result) }, handleOf)
	dropIncomingResponse(response)
	return &ResponseBody{body, stream}
}

// Read reads some of the body, at least one byte. Its error is io.EOF at the end, and io.ErrClosedPipe if done
// was closed.
func (b *ResponseBody) Read(done <-chan struct{}, into []byte) (int, error) {
	for {
		size, err := read(b.stream, into)
		if size > 0 || err != nil {
			return size, err
		}
		if !wait(done, subscribeInput(b.stream)) {
			return 0, io.ErrClosedPipe
		}
	}
}

// Trailers drops a body that was read to its end, and waits for what follows it.
func (b *ResponseBody) Trailers(done <-chan struct{}) ([]host.HTTPField, error) {
	dropInput(b.stream)
	future := incomingBodyFinish(b.body)
	defer dropFutureTrailers(future)
	if !wait(done, subscribeTrailers(future)) {
		return nil, io.ErrClosedPipe
	}
	var err error
	fields := ask(func(result unsafe.Pointer) {
		importFutureTrailersGet(future, result)
	}, func(answer *words) uint32 {
		// Whether they are there, whether they were taken before, whether it is an error, whether there are any.
		if answer.byte(4) != 0 {
			err = answer.httpError(6)
		}
		if answer.byte(6) == 0 {
			return 0
		}
		return answer[7]
	})
	if err != nil || fields == 0 {
		return nil, err
	}
	return takeFields(fields), nil
}

// Drop drops the body.
func (b *ResponseBody) Drop() {
	dropInput(b.stream)
	dropIncomingBody(b.body)
}

// httpError reads a variant error-code.
func (w *words) httpError(at int) *host.HTTPError {
	const dnsError, tlsAlert, internalError = 1, 14, 38
	err := &host.HTTPError{Code: w.byte(at)}
	payload := at + 2
	switch {
	case err.Code == dnsError && w.byte(payload) != 0:
		err.Text = w.text(payload + 1)
	case err.Code == tlsAlert && w.byte(payload+1) != 0:
		err.Text = w.text(payload + 2)
	case err.Code == internalError && w.byte(payload) != 0:
		err.Text = w.text(payload + 1)
	}
	return err
}
