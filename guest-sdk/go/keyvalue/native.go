//go:build !wasip1

package keyvalue

import "sandhog/internal/host"

type bucket = host.Bucket

func open(store string) (bucket, *host.KeyValueError) { return host.CurrentKeyValue.Open(store) }
