"""What the networks share: recurrent cells, U-Net, data consistency, complex images as channels."""
