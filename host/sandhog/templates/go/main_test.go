package main

import (
{{with http}}
	"net/http"
{{end}}
	"strings"
	"testing"
{{with http}}
	"time"
{{end}}

	"sandhog"
	"sandhog/sandhogtest"
)

{{with any}}
const orderBody = `{"id": 7, "items": [{"price": 12.5, "quantity": 2}]}`

// granted is what the manifest grants.
func granted() sandhogtest.Host {
	var host sandhogtest.Host
{{end}}
{{with http}}
	host.HTTP = sandhogtest.Serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
{{end}}
{{with keyvalue}}
	host.KeyValue = sandhogtest.Stores{}
{{end}}
{{with http config}}
	host.Config = map[string]string{"api": "https://api.example.com", "token": "secret"}
{{end}}
{{with config without http}}
	host.Config = map[string]string{"currency": "EUR"}
{{end}}
{{with any}}
	return host
}

{{end}}
func TestAnOrderIsTotalled(t *testing.T) {
	body := `{"id": 7, "items": [{"price": 12.5, "quantity": 2}, {"price": 3, "quantity": 1}]}`
{{without any}}
	result := sandhogtest.Run(handle, sandhogtest.Message(body))
{{end}}
{{with any}}
	result := granted().Run(handle, sandhogtest.Message(body))
{{end}}
	if result.Verdict != sandhog.Succeeded {
		t.Fatal(result.Verdict, result.Reason)
	}
	if len(result.Sent) != 1 || result.Sent[0].Queue != "totals" {
		t.Fatal(result.Sent)
	}
	sent := result.Sent[0].Message
{{without config}}
	if string(sent.Body) != `{"id":7,"total":28}` {
{{end}}
{{with http config}}
	if string(sent.Body) != `{"id":7,"total":28}` {
{{end}}
{{with config without http}}
	if string(sent.Body) != `{"id":7,"total":28,"currency":"EUR"}` {
{{end}}
		t.Error(string(sent.Body))
	}
	if len(sent.Attributes) != 1 || sent.Attributes[0] != (sandhog.Attribute{Name: "items", Value: sandhog.Integer(2)}) {
		t.Error(sent.Attributes)
	}
	if len(result.Logged) != 1 || result.Logged[0].Text != "order 7: 2 items, 28 in total" {
		t.Error(result.Logged)
	}
}

func TestWhatIsNotJSONIsRejected(t *testing.T) {
	result := sandhogtest.Run(handle, sandhogtest.Message("seven spades"))
	if result.Verdict != sandhog.Rejected || !strings.Contains(result.Reason, "not the JSON expected") {
		t.Error(result.Verdict, result.Reason)
	}
	if len(result.Sent) != 0 {
		t.Error(result.Sent)
	}
}

func TestAnItemWithoutAPriceIsRejected(t *testing.T) {
	result := sandhogtest.Run(handle, sandhogtest.Message(`{"id": 7, "items": [{"quantity": 1}]}`))
	if result.Verdict != sandhog.Rejected || result.Reason != "order 7 has an item without a price or a quantity" {
		t.Error(result.Verdict, result.Reason)
	}
}
{{with keyvalue}}

func TestAnOrderThatComesTwiceIsSentOnce(t *testing.T) {
	host := granted()
	first := host.Run(handle, sandhogtest.Message(orderBody))
	host.KeyValue = first.KeyValue
	second := host.Run(handle, sandhogtest.Message(orderBody))
	if second.Verdict != sandhog.Succeeded || len(first.Sent) != 1 || len(second.Sent) != 0 {
		t.Error(second.Verdict, first.Sent, second.Sent)
	}
}
{{end}}
{{with http}}

func TestATotalIsPostedToTheAPI(t *testing.T) {
	result := granted().Run(handle, sandhogtest.Message(orderBody))
	if len(result.Requests) != 1 {
		t.Fatal(result.Requests)
	}
	request := result.Requests[0]
	if request.Method != "POST" || request.URL != "https://api.example.com/totals" {
		t.Error(request.Method, request.URL)
	}
	if request.Header.Get("Idempotency-Key") != "test-message" || string(request.Body) != `{"id":7,"total":25}` {
		t.Error(request.Header, string(request.Body))
	}
}

func TestABusyAPIIsAskedAgainWhenItSays(t *testing.T) {
	host := granted()
	host.HTTP = sandhogtest.Serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	result := host.Run(handle, sandhogtest.Message(orderBody))
	if result.Verdict != sandhog.RetriedAfter || result.Delay != 7*time.Second || len(result.Sent) != 0 {
		t.Error(result)
	}
}
{{end}}
{{with http config}}

func TestTheAPIGetsTheToken(t *testing.T) {
	result := granted().Run(handle, sandhogtest.Message(orderBody))
	if token := result.Requests[0].Header.Get("Authorization"); token != "Bearer secret" {
		t.Error(token)
	}
}
{{end}}
{{with config without http}}

func TestTheCurrencyIsThatOfTheManifest(t *testing.T) {
	host := granted()
	host.Config = map[string]string{"currency": "CHF"}
	result := host.Run(handle, sandhogtest.Message(orderBody))
	if body := string(result.Sent[0].Message.Body); body != `{"id":7,"total":25,"currency":"CHF"}` {
		t.Error(body)
	}
}
{{end}}
