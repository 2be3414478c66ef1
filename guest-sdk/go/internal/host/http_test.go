package host

import "testing"

func TestAnErrorIsKnownByItsWords(t *testing.T) {
	for text, name := range map[string]string{
		"connection terminated":                                  "connection-terminated",
		"HTTP response body size exceeds limit: 7 bytes\n\nat x": "HTTP-response-body-size",
		"hyper error: broken":                                    "internal-error",
	} {
		if err := HTTPErrorOfText(text); err.Name() != name {
			t.Errorf("%q: %v", text, err)
		}
	}
}
