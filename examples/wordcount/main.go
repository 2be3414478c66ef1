// Wordcount counts the words of its standard input, and prints the most frequent ones with their counts.
//
//	wordcount [-n 10] < text
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
)

func main() {
	most := flag.Int("n", 10, "how many words to print")
	flag.Parse()
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
	out := bufio.NewWriter(os.Stdout)
	for _, count := range frequent(string(text), *most) {
		fmt.Fprintf(out, "%d\t%s\n", count.times, count.word)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

type count struct {
	word  string
	times int
}

// frequent returns the most frequent words, the most frequent one first, and equally frequent ones by the
// alphabet. A word is a run of letters, digits and apostrophes, in whatever case.
func frequent(text string, most int) []count {
	times := map[string]int{}
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
	}) {
		times[word]++
	}
	counts := make([]count, 0, len(times))
	for word, n := range times {
		counts = append(counts, count{word, n})
	}
	slices.SortFunc(counts, func(a, b count) int {
		if a.times != b.times {
			return b.times - a.times
		}
		return strings.Compare(a.word, b.word)
	})
	return counts[:min(max(most, 0), len(counts))]
}
