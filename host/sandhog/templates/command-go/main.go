// Totals an order: each line of standard input is a price and a quantity, standard output gets the total.
package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

const (
	// badInput: the input will never be right. The message becomes a dead letter, with the last line of
	// standard error as the reason.
	badInput = 65
	// tryLater: it may be right later. The message is retried.
	tryLater = 75
)

func main() {
	order, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(tryLater, err)
	}
	if strings.TrimSpace(string(order)) == "" {
		fail(tryLater, "the order has no items yet")
	}
	sum, err := total(string(order))
	if err != nil {
		fail(badInput, err)
	}
	fmt.Printf("%.2f\n", sum)
}

func fail(code int, reason any) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(code)
}

func total(order string) (float64, error) {
	sum := 0.0
	for i, line := range strings.Split(order, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		item := math.NaN()
		if len(fields) == 2 {
			price, priceErr := strconv.ParseFloat(fields[0], 64)
			quantity, quantityErr := strconv.ParseFloat(fields[1], 64)
			if priceErr == nil && quantityErr == nil {
				item = price * quantity
			}
		}
		if math.IsNaN(item) || math.IsInf(item, 0) {
			return 0, fmt.Errorf("line %d is not a price and a quantity", i+1)
		}
		sum += item
	}
	return sum, nil
}
