"""What a worker holds, as it is stored."""
import unittest

from lovely.remotetask.store.leases import Lease, packed, unpacked

HELD = {7: (1, 1_795_263_248_868_887), 2**31 - 1: (2**40, 5)}


class WhatIsHeld(unittest.TestCase):

    def test_a_newer_token_is_never_replaced_by_an_older_one(self):
        """Both keys of one job, claimed in one look: the newer was held by nobody."""
        for claims in [(7, 2, 10), (7, 1, 10)], [(7, 1, 10), (7, 2, 10)]:
            lease = Lease("one", 1)
            lease.hold(claims)
            self.assertEqual(lease.held, {7: (2, 10)})
            lease.hold([(7, 1, 11)])
            self.assertEqual(lease.held, {7: (2, 10)})
            lease.release([(7, 1)])
            self.assertEqual(lease.held, {7: (2, 10)})

    def test_it_is_read_as_it_was_written(self):
        self.assertEqual(unpacked(packed(HELD)), HELD)
        self.assertEqual(unpacked(packed({})), {})

    def test_it_is_stored_as_three_numbers_of_eight_bytes_each(self):
        self.assertEqual(packed({258: (3, 1)}),
                         bytes((2, 1, *[0] * 6, 3, *[0] * 7, 1, *[0] * 7)))

    def test_the_state_has_bytes_and_the_lease_a_dictionary(self):
        lease = Lease("one", 1)
        lease.hold([(7, 1, 10)])
        state = lease.__getstate__()
        self.assertEqual(state["held"], packed({7: (1, 10)}))
        self.assertEqual(lease.held, {7: (1, 10)})
        other = Lease.__new__(Lease)
        other.__setstate__(state)
        self.assertEqual((other.name, other.held), ("one", {7: (1, 10)}))

    def test_a_lease_that_was_stored_with_a_dictionary_is_read(self):
        state = {**Lease("one", 1).__getstate__(), "held": {7: (1, 10)}}
        other = Lease.__new__(Lease)
        other.__setstate__(state)
        self.assertEqual(other.held, {7: (1, 10)})


if __name__ == "__main__":
    unittest.main()
