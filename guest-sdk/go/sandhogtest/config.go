package sandhogtest

import (
	"errors"
	"maps"
)

// config is the configuration of a handler. Nil is none.
type config map[string]string

var errNoConfig = errors.New(
	"the configuration is not granted: add config to [grant] of the manifest, and Config to the Host of the test",
)

func (c config) Get(name string) (value string, found bool, err error) {
	if c == nil {
		return "", false, errNoConfig
	}
	value, found = c[name]
	return value, found, nil
}

func (c config) All() (map[string]string, error) {
	if c == nil {
		return nil, errNoConfig
	}
	return maps.Clone(c), nil
}
