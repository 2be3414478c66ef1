// Totals an order, and sends the total to the queue totals.
package main

import (
	"context"
	"fmt"
	"log/slog"

	"sandhog"
	"sandhog/worker"
)

func init() { worker.Handle(handle) }

func main() {}

type order struct {
	ID    any     `json:"id"`
	Items *[]item `json:"items"`
}

type item struct {
	Price    *float64 `json:"price"`
	Quantity *float64 `json:"quantity"`
}

type total struct {
	ID    any     `json:"id"`
	Total float64 `json:"total"`
}

func handle(ctx context.Context, message *sandhog.Message) error {
	var order order
	if err := message.JSON(&order); err != nil {
		return err // not an order: a dead letter that says why
	}
	if order.ID == nil || order.Items == nil {
		return sandhog.Reject("an order has an id and items")
	}
	sum := 0.0
	for _, item := range *order.Items {
		if item.Price == nil || item.Quantity == nil {
			return sandhog.Reject("order %v has an item without a price or a quantity", order.ID)
		}
		sum += *item.Price * *item.Quantity
	}
	outgoing, err := sandhog.JSON(total{order.ID, sum})
	if err != nil {
		return err
	}
	outgoing = outgoing.With("items", sandhog.Integer(int64(len(*order.Items))))
	if err := sandhog.Send("totals", outgoing); err != nil {
		return err
	}
	slog.Info(fmt.Sprintf("order %v: %d items, %v in total", order.ID, len(*order.Items), sum))
	return nil
}
