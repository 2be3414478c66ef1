package http

import (
	"compress/gzip"
	"io"
	"net/http"
	"sync"

	"sandhog/internal/abi"
)

// responseBody is the body of a response. What it holds of the host is given back at its end, on an error, or
// when it is closed.
type responseBody struct {
	mutex   sync.Mutex
	trip    *trip
	body    *abi.ResponseBody
	trailer http.Header
	err     error
}

func (b *responseBody) Read(into []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.err != nil || len(into) == 0 {
		return 0, b.err
	}
	size, err := b.body.Read(b.trip.ctx.Done(), into)
	switch {
	case err == io.EOF:
		b.finish()
	case err != nil:
		b.release(b.trip.end(err))
	}
	return size, b.err
}

// finish ends a body that was read to its end.
func (b *responseBody) finish() {
	if len(b.trailer) == 0 {
		b.release(io.EOF)
		return
	}
	body := b.body
	b.body = nil
	fields, err := body.Trailers(b.trip.ctx.Done())
	if err != nil {
		b.release(b.trip.end(err))
		return
	}
	for name, values := range headerOf(fields) {
		b.trailer[name] = values
	}
	b.release(io.EOF)
}

// Close gives a response up whose body was not read to its end.
func (b *responseBody) Close() error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.release(http.ErrBodyReadAfterClose)
	return nil
}

func (b *responseBody) release(err error) {
	if b.err != nil {
		return
	}
	b.err = err
	if b.body != nil {
		b.body.Drop()
	}
	b.trip.cancel(err)
}

// unzipped is a body that the server has compressed.
type unzipped struct {
	body   *responseBody
	reader *gzip.Reader
	err    error
}

func (u *unzipped) Read(into []byte) (int, error) {
	if u.reader == nil && u.err == nil {
		u.reader, u.err = gzip.NewReader(u.body)
	}
	if u.err != nil {
		return 0, u.err
	}
	return u.reader.Read(into)
}

func (u *unzipped) Close() error {
	return u.body.Close()
}
