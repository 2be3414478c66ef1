//go:build wasip1

package abi

import (
	"errors"
	"unsafe"
)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get
//go:noescape
func importConfigGet(name string, result unsafe.Pointer)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get-all
//go:noescape
func importConfigGetAll(result unsafe.Pointer)

type wirePair struct{ name, nameLength, value, valueLength uint32 }

// ConfigGet returns a value that the manifest grants, and whether there is one.
func ConfigGet(name string) (value string, found bool, err error) {
	value = ask(func(result unsafe.Pointer) { importConfigGet(name, result) }, func(answer *words) string {
		if answer.byte(0) != 0 {
			err = errors.New(answer.text(2))
			return ""
		}
		if found = answer.byte(1) != 0; !found {
			return ""
		}
		return answer.text(2)
	})
	return value, found, err
}

// ConfigAll returns all values that the manifest grants.
func ConfigAll() (map[string]string, error) {
	var err error
	all := ask(func(result unsafe.Pointer) { importConfigGetAll(result) }, func(answer *words) map[string]string {
		if answer.byte(0) != 0 {
			err = errors.New(answer.text(2))
			return nil
		}
		values := map[string]string{}
		for _, pair := range listAt[wirePair](answer[1], answer[2]) {
			values[textAt(pair.name, pair.nameLength)] = textAt(pair.value, pair.valueLength)
		}
		return values
	})
	return all, err
}
