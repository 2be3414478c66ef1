package host

import "strings"

// HTTPField is a header or a trailer.
type HTTPField struct {
	Name  string
	Value string
}

// HTTPRequest is the head of a request as wasi:http has it.
type HTTPRequest struct {
	Method    string
	Scheme    string
	Authority string
	Path      string
	Fields    []HTTPField
}

// HTTPResponse is the head of a response as wasi:http has it.
type HTTPResponse struct {
	Status int
	Fields []HTTPField
}

// HTTPErrorOf makes the error of a handler from the name of one of the host and the origin of a request. It is nil
// in a program that does not import the package http.
var HTTPErrorOf func(code, origin string) error

// HTTPError is an error of wasi:http: the number of its case there, and the text that some cases have.
type HTTPError struct {
	Code uint8
	Text string
}

// HTTPErrorOfText returns the error with whose name, in words, a text begins. Any other text is an internal error.
func HTTPErrorOfText(text string) *HTTPError {
	text, _, _ = strings.Cut(text, "\n")
	for code, name := range httpErrors {
		if strings.HasPrefix(text, strings.ReplaceAll(name, "-", " ")) {
			return &HTTPError{Code: uint8(code)}
		}
	}
	return &HTTPError{Code: uint8(len(httpErrors) - 1), Text: text}
}

// Error returns the name of the case, and its text.
func (e *HTTPError) Error() string {
	if e.Text == "" {
		return e.Name()
	}
	return e.Name() + ": " + e.Text
}

// Name returns the name of the case, such as connection-refused.
func (e *HTTPError) Name() string {
	if int(e.Code) >= len(httpErrors) {
		return "unknown error"
	}
	return httpErrors[e.Code]
}

// httpErrors are the cases of error-code in wasi:http, in their order.
var httpErrors = [...]string{
	"DNS-timeout",
	"DNS-error",
	"destination-not-found",
	"destination-unavailable",
	"destination-IP-prohibited",
	"destination-IP-unroutable",
	"connection-refused",
	"connection-terminated",
	"connection-timeout",
	"connection-read-timeout",
	"connection-write-timeout",
	"connection-limit-reached",
	"TLS-protocol-error",
	"TLS-certificate-error",
	"TLS-alert-received",
	"HTTP-request-denied",
	"HTTP-request-length-required",
	"HTTP-request-body-size",
	"HTTP-request-method-invalid",
	"HTTP-request-URI-invalid",
	"HTTP-request-URI-too-long",
	"HTTP-request-header-section-size",
	"HTTP-request-header-size",
	"HTTP-request-trailer-section-size",
	"HTTP-request-trailer-size",
	"HTTP-response-incomplete",
	"HTTP-response-header-section-size",
	"HTTP-response-header-size",
	"HTTP-response-body-size",
	"HTTP-response-trailer-section-size",
	"HTTP-response-trailer-size",
	"HTTP-response-transfer-coding",
	"HTTP-response-content-coding",
	"HTTP-response-timeout",
	"HTTP-upgrade-failed",
	"HTTP-protocol-error",
	"loop-detected",
	"configuration-error",
	"internal-error",
}
