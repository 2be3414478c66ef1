// Package config reads the configuration of a handler, secrets included: what its manifest grants.
//
//	[grant]
//	config = { api = "https://api.example.com", token = { from-env = "API_TOKEN" } }
//
// The host shows no value in its log, its errors or its commands. A handler that calls a function of this package
// needs the grant; config = {} is one.
package config

import "strings"

// Get returns the value of this name, and whether the manifest has one.
func Get(name string) (string, bool) {
	value, found, err := get(strings.ToValidUTF8(name, "\uFFFD"))
	if err != nil {
		panic(err)
	}
	return value, found
}

// All returns all values by their names.
func All() map[string]string {
	values, err := all()
	if err != nil {
		panic(err)
	}
	return values
}
