"""A long-lived service: experiments wait as stores in its folder, and share its workers until they are finished."""
