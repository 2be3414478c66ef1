package main

import "testing"

func TestAnOrderIsTotalled(t *testing.T) {
	if sum, err := total("12.50 2\n3 1\n"); sum != 28 || err != nil {
		t.Error(sum, err)
	}
}

func TestALineThatIsNoItemIsNamed(t *testing.T) {
	for _, order := range []string{"12.50 2\nspade\n", "12.50 2\n3\n", "1 1\n1 2 3\n", "1 1\n1 inf\n"} {
		if _, err := total(order); err == nil || err.Error() != "line 2 is not a price and a quantity" {
			t.Errorf("%q: %v", order, err)
		}
	}
}
