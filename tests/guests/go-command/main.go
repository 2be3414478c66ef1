// Command counts counts each body in the key-value store, with the SDK, and has more in its memory than it begins with.
package main

import (
	"fmt"
	"io"
	"os"

	"sandhog/config"
	"sandhog/keyvalue"
)

func main() {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	greeting, _ := config.Get("greeting")
	// More than the memory that the program begins with.
	kept := make([][]byte, 16)
	for i := range kept {
		kept[i] = make([]byte, 1<<20)
	}
	count, err := keyvalue.Open("default").Increment(string(body), 1)
	if err != nil {
		panic(err)
	}
	fmt.Println(greeting, string(body), count, len(kept))
}
