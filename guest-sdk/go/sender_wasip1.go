package sandhog

import "sandhog/internal/abi"

func sender() abi.Sender { return abi.Sender{} }
