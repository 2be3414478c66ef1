// Renders the confirmation of an order as an HTML page.
//
// The body is an order in JSON; the page is what confirmation.html makes of it, and goes to the queue pages with
// the customer's address and the content type as attributes. html/template escapes every value for the place
// that it stands in, so an order can't put markup or scripts into the page. An order that lacks what the
// template asks for becomes a dead letter that names the field.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"

	"sandhog"
	"sandhog/worker"
)

//go:embed confirmation.html
var source string

var page = template.Must(template.New("confirmation.html").
	Option("missingkey=error").
	Funcs(template.FuncMap{"money": money, "times": times}).
	Parse(source))

func init() { worker.Handle(handle) }

func main() {}

func handle(ctx context.Context, message *sandhog.Message) error {
	var order map[string]any
	if err := message.JSON(&order); err != nil {
		return err
	}
	email, ok := order["email"].(string)
	if !ok || email == "" {
		return sandhog.Reject("the order has no email")
	}
	var html bytes.Buffer
	if err := page.Execute(&html, order); err != nil {
		return sandhog.Reject("the order does not fit the page: %w", err)
	}
	slog.Info("rendered", "bytes", html.Len())
	outgoing := sandhog.Outgoing{Body: html.Bytes()}.
		With("to", sandhog.Text(email)).
		With("content-type", sandhog.Text("text/html; charset=utf-8")).
		With("source", sandhog.Text(message.ID))
	return sandhog.Send("pages", outgoing)
}

// money writes an amount with two digits.
func money(amount any) (string, error) {
	number, ok := amount.(float64)
	if !ok {
		return "", fmt.Errorf("%v is not an amount", amount)
	}
	return fmt.Sprintf("%.2f", number), nil
}

// times is the price of several.
func times(price, quantity any) (float64, error) {
	one, isPrice := price.(float64)
	several, isQuantity := quantity.(float64)
	if !isPrice || !isQuantity {
		return 0, fmt.Errorf("%v times %v is not an amount", price, quantity)
	}
	return one * several, nil
}
