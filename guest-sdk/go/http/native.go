//go:build !wasip1

package http

import "sandhog/internal/route"

func init() { route.Native() }
