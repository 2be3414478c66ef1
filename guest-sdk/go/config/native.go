//go:build !wasip1

package config

import "sandhog/internal/host"

func get(name string) (string, bool, error) { return host.CurrentConfig.Get(name) }

func all() (map[string]string, error) { return host.CurrentConfig.All() }
