package main

import (
	"strings"
	"testing"

	"sandhog"
	"sandhog/sandhogtest"
)

func TestAnOrderIsTotalled(t *testing.T) {
	body := `{"id": 7, "items": [{"price": 12.5, "quantity": 2}, {"price": 3, "quantity": 1}]}`
	result := sandhogtest.Run(handle, sandhogtest.Message(body))
	if result.Verdict != sandhog.Succeeded {
		t.Fatal(result.Verdict, result.Reason)
	}
	if len(result.Sent) != 1 || result.Sent[0].Queue != "totals" {
		t.Fatal(result.Sent)
	}
	sent := result.Sent[0].Message
	if string(sent.Body) != `{"id":7,"total":28}` {
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
