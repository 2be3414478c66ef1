package route

import (
	"errors"
	"net/http"
	"testing"
)

var errLed = errors.New("led elsewhere")

type elsewhere struct{}

func (elsewhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errLed }

func TestATransportThatWasClonedBeforeIsLedAsWell(t *testing.T) {
	transport := &http.Transport{ForceAttemptHTTP2: true}
	transport.Clone()
	Lead(transport, elsewhere{})
	for _, url := range []string{"http://127.0.0.1:9/", "https://127.0.0.1:9/"} {
		for _, client := range []http.Client{{Transport: transport}, {Transport: transport.Clone()}} {
			if _, err := client.Get(url); !errors.Is(err, errLed) {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
}
