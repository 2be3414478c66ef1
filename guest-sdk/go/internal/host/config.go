package host

// Config has the configuration of a handler. Every text passed to it is UTF-8.
type Config interface {
	Get(name string) (value string, found bool, err error)
	All() (map[string]string, error)
}

// CurrentConfig has the configuration on the host that the handler runs on.
var CurrentConfig Config = noConfig{}

type noConfig struct{}

func (noConfig) Get(string) (string, bool, error) { return "", false, errNoHost }
func (noConfig) All() (map[string]string, error)  { return nil, errNoHost }
