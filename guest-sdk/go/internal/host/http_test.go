package host

import "testing"

func TestAnErrorIsKnownByItsWords(t *testing.T) {
	for text, want := range map[string]string{
		"connection terminated":                          "connection-terminated",
		"HTTP response body size exceeds limit: 7 bytes": "HTTP-response-body-size",
		"hyper error: broken\n\nat connection.rs":        "internal-error: hyper error: broken",
	} {
		if err := HTTPErrorOfText(text); err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
