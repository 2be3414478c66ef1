module counts

go 1.24

require sandhog v0.0.0

replace sandhog => ../../../guest-sdk/go
