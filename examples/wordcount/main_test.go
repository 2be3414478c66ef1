package main

import (
	"os"
	"slices"
	"testing"
)

func TestTheMostFrequentWordsComeFirst(t *testing.T) {
	counts := frequent("The dune, the sand; the DUNE! It's sand. Åre åre.", 3)
	if !slices.Equal(counts, []count{{"the", 3}, {"dune", 2}, {"sand", 2}}) {
		t.Error(counts)
	}
}

func TestFewerWordsThanAskedForAreAll(t *testing.T) {
	if counts := frequent("one", 10); !slices.Equal(counts, []count{{"one", 1}}) {
		t.Error(counts)
	}
	if counts := frequent(" \n", 10); len(counts) != 0 {
		t.Error(counts)
	}
}

func TestAText(t *testing.T) {
	text, err := os.ReadFile("input/dunes.txt")
	if err != nil {
		t.Fatal(err)
	}
	if counts := frequent(string(text), 1); !slices.Equal(counts, []count{{"the", 7}}) {
		t.Error(counts)
	}
}
