package config_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sandhog"
	"sandhog/config"
	"sandhog/sandhogtest"
)

func TestAValueIsThereOrNot(t *testing.T) {
	sandhogtest.Host{Config: map[string]string{"a": "1", "empty": ""}}.Run(func(context.Context, *sandhog.Message) error {
		for name, want := range map[string]bool{"a": true, "empty": true, "none": false} {
			if _, found := config.Get(name); found != want {
				t.Error(name, found)
			}
		}
		if all := config.All(); len(all) != 2 || all["a"] != "1" {
			t.Error(all)
		}
		return nil
	}, sandhogtest.Message(""))
}

func TestAConfigurationThatIsNotGrantedIsAPanic(t *testing.T) {
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, "add config to [grant]") {
			t.Error(said)
		}
	}()
	sandhogtest.Run(func(context.Context, *sandhog.Message) error {
		config.Get("a")
		return nil
	}, sandhogtest.Message(""))
}
