// Command lua runs a script in Lua on a message: that of its first argument, or the one that it was built with.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"

	lua "github.com/yuin/gopher-lua"
)

//go:embed orders.lua
var orders string

func main() {
	script := orders
	if len(os.Args) > 1 {
		script = os.Args[1]
	}
	state := lua.NewState()
	err := state.DoString(script)
	var failure *lua.ApiError
	if errors.As(err, &failure) {
		fmt.Fprintln(os.Stderr, failure.Object.String())
		os.Exit(1)
	}
}
