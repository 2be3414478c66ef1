package main

import (
	"os"
	"strings"
	"testing"

	"sandhog"
	"sandhog/sandhogtest"
)

func render(t *testing.T, file string) sandhogtest.Result {
	body, err := os.ReadFile("input/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return sandhogtest.Run(handle, sandhogtest.Message(string(body)))
}

func TestAnOrderBecomesAPage(t *testing.T) {
	result := render(t, "garden.json")
	if result.Verdict != sandhog.Succeeded || len(result.Sent) != 1 || result.Sent[0].Queue != "pages" {
		t.Fatal(result)
	}
	html := string(result.Sent[0].Message.Body)
	for _, part := range []string{"Thank you, Åsa", "<td>2 × spade</td><td>25.00</td>", "orders?id=1042"} {
		if !strings.Contains(html, part) {
			t.Errorf("%q is not in\n%s", part, html)
		}
	}
	if strings.Contains(html, "Your note") {
		t.Error("a note that was not given")
	}
	if to := result.Sent[0].Message.Attributes[0]; to.Value != sandhog.Text("asa@garden.example") {
		t.Error(to)
	}
}

func TestAnOrderCannotPutMarkupIntoThePage(t *testing.T) {
	html := string(render(t, "hostile.json").Sent[0].Message.Body)
	if strings.Contains(html, "<script") || strings.Contains(html, "id=7&x=1") {
		t.Error(html)
	}
	if !strings.Contains(html, "&lt;script&gt;") {
		t.Error(html)
	}
}

func TestAnOrderThatLacksAFieldIsRejectedWithItsName(t *testing.T) {
	result := render(t, "nameless.json")
	if result.Verdict != sandhog.Rejected || !strings.Contains(result.Reason, `"name"`) {
		t.Error(result.Verdict, result.Reason)
	}
}

func TestWhatIsNoOrderIsRejected(t *testing.T) {
	for body, reason := range map[string]string{
		"spade":                    "not the JSON expected",
		"[]":                       "not the JSON expected",
		`{"id": 1}`:                "no email",
		`{"email": "a@b.example"}`: `"id"`,
	} {
		result := sandhogtest.Run(handle, sandhogtest.Message(body))
		if result.Verdict != sandhog.Rejected || !strings.Contains(result.Reason, reason) || len(result.Sent) != 0 {
			t.Errorf("%s: %v: %s", body, result.Verdict, result.Reason)
		}
	}
}
