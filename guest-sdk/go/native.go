//go:build !wasip1

package sandhog

import "sandhog/internal/host"

func sender() host.Sender { return host.CurrentSender }
